//! The whole client against scripted control planes on loopback sockets.

mod hostile;
mod rig;
mod scripted;
mod secrets;
