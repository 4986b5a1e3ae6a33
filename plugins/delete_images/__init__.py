"""Any image classifier: forget a class per image.

Model files, architectures and data work without a Runner; ``delete_images.register`` makes the task, its model and its
datasets known to mmengine (in a config: ``custom_imports = dict(imports=['delete_images.register'])``).
"""
