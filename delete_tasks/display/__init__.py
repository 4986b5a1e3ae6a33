"""Terminal, progress bars, tables, figures."""
