"""The same bus runs again, and what it does is compared with what was done."""
