"""What is read of strangers, against whatever it may hold: no crash, no hang, no code run, no path elsewhere."""
