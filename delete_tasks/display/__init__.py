"""What people see: terminal, progress bars, tables, figures."""
