"""Model -> model: copying, rewriting, selecting. Nothing here trains, and nothing here changes the model that it is given."""
