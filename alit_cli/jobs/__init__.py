"""Long work: generators that yield one record per step."""
