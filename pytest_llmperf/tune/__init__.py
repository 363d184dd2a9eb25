"""`llmperf tune`: finds settings that meet the targets, and proves their gain."""
