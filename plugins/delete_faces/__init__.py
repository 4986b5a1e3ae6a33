"""Face identification: forget a person. The location is a photo, the masked class is the person. Networks, alignment and figures
need no Runner; importing ``delete_faces.register`` makes the task, its model and its datasets known to mmengine."""
