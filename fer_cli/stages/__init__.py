"""One plain, typed, keyword-only function a stage: artifacts in, an artifact out."""
