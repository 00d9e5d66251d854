"""From an item's content to what a backbone takes: pixels of an image, token ids of a text."""
