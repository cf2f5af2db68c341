//! The tool as people run it: a process that starts processes.

mod attacked;
mod lifecycle;
mod network;
mod scripted;
mod support;
