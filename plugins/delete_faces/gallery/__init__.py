"""What face systems need besides unlearning: alignment, enrolment, import, identification."""
