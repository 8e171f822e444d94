//! Way: how connections get from here to a target's ports. As the engine connects, where it does that itself;
//! straight to its address where that is known to be the target's; otherwise through a relay in its network namespace.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::near::Near;
use crate::engine::relay::Relay;
use crate::engine::{Container, ContainerState, Engine};
use crate::probe::Stream;

/// How long one straight connection attempt may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Who can start a relay, and with what.
#[derive(Clone)]
pub struct Helper<'a> {
    /// Runs containers.
    pub engine: &'a dyn Engine,
    /// Any image of the engine.
    pub image: String,
    /// The volume that holds this executable.
    pub volume: String,
    /// That image's VOLUMEs.
    pub mount_points: Vec<String>,
}

/// The way to one target.
pub struct Way<'a> {
    helper: Helper<'a>,
    container: Arc<dyn Container>,
    state: ContainerState,
    near: Option<Near>,
    relay: OnceCell<Relay>,
}

impl<'a> Way<'a> {
    /// The way to a container that was just started; `state` has its address.
    pub fn new(helper: Helper<'a>, container: Arc<dyn Container>, state: ContainerState) -> Self {
        let local = helper.engine.info().local;
        let near = Near::find(state.process, container.id()).filter(|_| local);
        Self { helper, container, state, near, relay: OnceCell::new() }
    }

    /// Connects to a port of the target.
    ///
    /// # Errors
    /// As a connect from a neighbour of the target.
    pub async fn dial(&self, port: u16) -> Result<Box<dyn Stream>> {
        if let Some(stream) = self.container.dial(port).await {
            return Ok(Box::new(stream?));
        }
        match self.near() {
            Some(near) => match self.straight(port, near).await? {
                Some(stream) => Ok(stream),
                None => self.through_relay(port).await,
            },
            None => self.through_relay(port).await,
        }
    }

    /// Whether programs of this machine reach the target at [`Way::address`].
    pub fn is_straight(&self) -> bool {
        let addressed = self.state.address.is_some() || self.state.host_network;
        addressed && self.near().is_some()
    }

    fn near(&self) -> Option<&Near> {
        self.near.as_ref().filter(|_| !self.relay.initialized())
    }

    /// The tcp sockets that listen in the target's network namespace; `None` when that cannot be found out.
    pub async fn listeners(&self) -> Option<Vec<SocketAddr>> {
        if let Some(listeners) = self.container.listeners().await {
            return Some(listeners);
        }
        self.relay().await.ok()?.listeners().await.ok()
    }

    /// Ends the relay, if there is one.
    ///
    /// # Errors
    /// When the engine cannot remove it.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.relay.into_inner() {
            Some(relay) => relay.close().await,
            None => Ok(()),
        }
    }

    /// Where the target is reached, for people and, when it [is straight](Way::is_straight), for `--host-exec`.
    pub fn address(&self) -> String {
        match self.state.address {
            Some(address) if !self.state.host_network => address.to_string(),
            _ => Ipv4Addr::LOCALHOST.to_string(),
        }
    }

    fn ip(&self) -> IpAddr {
        match self.state.address {
            Some(address) if !self.state.host_network => address,
            _ => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// `None`: there is no way, or what answers at the target's address is somebody else.
    async fn straight(&self, port: u16, near: &Near) -> Result<Option<Box<dyn Stream>>> {
        if self.state.address.is_none() && !self.state.host_network {
            return Ok(None);
        }
        let mut connected = connect(self.ip(), port).await;
        // Asked once: the target may begin to listen at any moment, and only a refusal after that is somebody else's.
        let listens = connected.is_err() && near.accepts(self.ip(), port);
        if listens {
            connected = connect(self.ip(), port).await;
        }
        match connected {
            Ok(stream) if near.took(port, stream.local_addr()?) => {
                stream.set_nodelay(true)?;
                Ok(Some(Box::new(stream)))
            }
            Ok(_) => Ok(None),
            Err(error) if is_unreachable(&error) || listens => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn through_relay(&self, port: u16) -> Result<Box<dyn Stream>> {
        Ok(Box::new(self.relay().await?.dial(SocketAddr::new(self.ip(), port)).await?))
    }

    async fn relay(&self) -> Result<&Relay> {
        let helper = &self.helper;
        let start = || {
            Relay::start(helper.engine, &helper.image, &helper.volume, &helper.mount_points, self.container.as_ref())
        };
        self.relay.get_or_try_init(start).await.map_err(Error::other)
    }
}

async fn connect(ip: IpAddr, port: u16) -> Result<TcpStream> {
    let connect = TcpStream::connect(SocketAddr::new(ip, port));
    tokio::time::timeout(DIAL_TIMEOUT, connect).await.map_err(|_| ErrorKind::HostUnreachable)?
}

/// Whether an error means that there is no way at all, rather than that nobody listens.
fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown)
}
