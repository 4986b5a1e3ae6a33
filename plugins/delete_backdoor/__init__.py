"""Backdoored image classifiers: find the poison, remove the backdoor, measure both. The location is a poisoned sample, the masked
class the target; on the retain set nothing is masked. ``delete_backdoor.register`` registers with mmengine."""
