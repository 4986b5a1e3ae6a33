"""The user's request, checked: classes, recipe, config."""
