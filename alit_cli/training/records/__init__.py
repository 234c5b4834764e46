"""What a training run says of itself: its losses, its log, curves on boards, and the card of the finished model."""
