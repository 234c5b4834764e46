"""Files to arrays and back: images, where they come from, the plan of the work and the tables it makes."""
