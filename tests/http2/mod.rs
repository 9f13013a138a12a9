//! HTTP/2: what is answered is what HTTP/1.1 answers, on streams that do not get in each other's way.

mod bodies;
mod endings;
mod responses;
mod streams;
