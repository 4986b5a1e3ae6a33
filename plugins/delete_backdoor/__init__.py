"""Backdoored image classifiers: find the poison, take the backdoor out, measure both sides. The location is a poisoned sample and
the masked class is the attacker's target; on the retain set nothing is masked and the same loss retains.
``delete_backdoor.register`` makes the task and its datasets known to mmengine."""
