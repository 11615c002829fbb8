"""HTTP as meaning: headers, messages, paths.  Knows no socket, no configuration and no clock."""
