"""What the detector says about itself: metrics as data, logs without user content, one small HTTP server."""
