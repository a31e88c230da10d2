"""Either half of a recorded conversation is played to whoever is the other one."""
