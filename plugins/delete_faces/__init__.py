"""Face identification: forget a person. The location is a photo, the masked class is the person. Networks, alignment and figures
work without a Runner; ``delete_faces.register`` (in a config: ``custom_imports = dict(imports=['delete_faces.register'])``) makes
the task, its model and its datasets known to mmengine."""
