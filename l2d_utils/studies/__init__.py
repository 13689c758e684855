"""What the experiment chapters 06, 07, 08 and 10 need: many methods, on one kind of problem, over seeds."""
