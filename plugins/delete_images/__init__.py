"""Any image classifier: forget a class per image."""
