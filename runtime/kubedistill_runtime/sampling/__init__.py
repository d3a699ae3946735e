"""Which responses to draw, in what order, how many at a time; and the loop that draws and judges them."""
