"""What a recording says happened, on the true time line."""
