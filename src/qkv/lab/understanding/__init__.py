"""Reading tasks: classes, tags, intents and slots, dialogue; what pretraining, chains and joint training are worth."""
