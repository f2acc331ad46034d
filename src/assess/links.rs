//! Links in a text.
