//! Text to pods.
mod json;
mod quantity;
mod report;
mod scalar;
mod shape;
mod text;
mod tree;
mod yaml;
