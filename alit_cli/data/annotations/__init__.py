"""What people say about images: labels, masks, depth maps and lists, matched to images by name."""
