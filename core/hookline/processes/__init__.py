"""The processes of a server: how they start, how they die together, and what each child runs."""
