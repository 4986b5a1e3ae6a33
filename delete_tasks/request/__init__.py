"""What the user asks for, checked: classes, request, recipe, config."""
