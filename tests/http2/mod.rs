//! HTTP/2: it answers as HTTP/1.1 does, on streams that do not get in each other's way.

mod bodies;
mod endings;
mod replacements;
mod responses;
mod silent_clients;
mod streams;
