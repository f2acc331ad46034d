//! The cases that files bring.
