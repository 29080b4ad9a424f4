"""Values and decisions every room shares: frozen dataclasses and pure functions, no I/O, no Beam."""
