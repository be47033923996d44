"""What the tasks of understanding reach beside plain baselines: one module a part, one table a part."""
