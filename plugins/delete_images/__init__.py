"""Unlearning of classes of image classifiers. In a config, ``custom_imports = dict(imports=['delete_images.register'])`` makes
the task, its model and its datasets known to mmengine. Model folders, architectures and data need no Runner."""
