"""The same step in other frameworks, to be measured beside ours."""
