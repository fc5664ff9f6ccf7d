//! The network of the machine: links, addresses, DHCP. IPv4 is set here; IPv6 is left to the kernel's own autoconfiguration.

/// The DHCP client's messages. Pure.
mod message;

/// The DHCP client as a state machine. Pure.
pub mod dhcp;
/// Network interfaces, their addresses and routes.
pub mod link;
/// Messages to and from the kernel's network half.
pub mod netlink;
/// IP packets around DHCP messages, and the sockets that carry them.
pub mod packet;
/// What is known of the interfaces: net.json and resolv.conf.
pub mod report;
