//! Where people come from: files of rows, read as a stream, checked row by row.
//!
//! `rows` reads CSV and NDJSON, plain or compressed, into rows with line numbers; `pack` turns good rows
//! into packed blocks; `relay` lets both happen at once; `block` is the byte format of a block; `mapping` says which column means what;
//! `sample` writes made-up people.

pub mod block;
pub mod mapping;
pub mod pack;
pub mod relay;
pub mod rows;
pub mod sample;
