"""Long work: generators that yield one record a step."""
