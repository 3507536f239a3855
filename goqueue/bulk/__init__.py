"""Operations over many jobs: begun at once, done step by step by the scheduler, watched and aborted."""
