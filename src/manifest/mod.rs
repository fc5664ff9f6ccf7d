//! Text to pods.
mod defaults;
mod fields;
mod json;
mod quantity;
mod report;
mod scalar;
mod shape;
mod text;
mod tree;
mod uid;
mod yaml;
