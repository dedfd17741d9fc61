//! How the leader of a [`Team`](super::Team) and its helpers hand out the bands of a layer.
//!
//! They share a [`Board`]: the open layer's ticket, how many of its bands are done, and which helpers are signed in. Both
//! sides are state machines of which every step makes one access to the board, so that the tests can take all of them in
//! every order.
//!
//! What makes it sound to lend the leader's closure to helpers that may begin at any time:
//!
//! - A helper touches the closure only after it has taken a band off the ticket, and reports the band afterwards.
//! - The leader closes a layer, and lets the closure go, only when as many bands are reported as the ticket had. So it
//!   waits for bands that somebody has taken, and never for a helper that has not begun.
//! - Taking a band exchanges the whole ticket. A helper that slept between looking and taking can only take a band that
//!   is open at that moment, in whichever layer or run that is; with nothing open it takes nothing.
//! - Everything else that a helper touches it owns together with the team.

/// The open layer: its bands, and how many of them were taken from the front and from the back.
///
/// Half of the threads take bands from the front and half from the back: layer after layer, a thread then finds most of
/// what it reads in its own cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(pub u64);

impl Ticket {
    /// No run is going on: helpers leave.
    pub const FINISHED: Ticket = Ticket(u64::MAX);
    const BITS: u32 = 20;
    const MASK: u64 = (1 << Self::BITS) - 1;
    /// Most bands of a layer.
    pub const MAX: usize = Self::MASK as usize;

    /// All of `bands` bands are free, at most [`Ticket::MAX`].
    pub const fn open(bands: usize) -> Self {
        Ticket((bands as u64 & Self::MASK) << (2 * Self::BITS))
    }

    const fn bands(self) -> u64 {
        (self.0 >> (2 * Self::BITS)) & Self::MASK
    }

    const fn front(self) -> u64 {
        self.0 & Self::MASK
    }

    const fn back(self) -> u64 {
        (self.0 >> Self::BITS) & Self::MASK
    }

    /// A band for thread `who`, and the ticket without it.
    const fn take(self, who: usize) -> Option<(usize, Self)> {
        if self.0 == Self::FINISHED.0 || self.front() + self.back() >= self.bands() {
            None
        } else if who.is_multiple_of(2) {
            Some((self.front() as usize, Ticket(self.0 + 1)))
        } else {
            Some(((self.bands() - 1 - self.back()) as usize, Ticket(self.0 + (1 << Self::BITS))))
        }
    }
}

/// What leader and helpers share. Every method is one atomic access.
pub(super) trait Board {
    /// The ticket; what was written before it was published is seen.
    fn ticket(&self) -> Ticket;
    /// Replaces the ticket and shows all that was written before. For the leader, while no band is open.
    fn publish(&self, ticket: Ticket);
    /// Replaces the ticket if it is still `from`; else false. Sees what was written before `from` was published.
    fn exchange(&self, from: Ticket, to: Ticket) -> bool;
    /// One more band is done; shows what it wrote.
    fn report(&self);
    /// Bands done; what they wrote is seen.
    fn reported(&self) -> usize;
    /// No band is done. For the leader, while no band is open.
    fn forget_reports(&self);
    /// Marks helper `who` as signed in or not, and tells what it was. Sees what was written before the last mark and
    /// shows what was written before this one.
    fn sign(&self, who: usize, present: bool) -> bool;
}

/// What a thread does for the open layer next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Hand {
    /// look at the ticket
    Look,
    /// take a band off the ticket seen
    Take(Ticket),
    /// run this band: for whoever drives the machine, who then goes on with [`Hand::Report`]
    Run(usize),
    /// tell that the band is done
    Report,
    /// there was no band to take
    Idle,
}

impl Hand {
    fn next(self, board: &impl Board, who: usize) -> Self {
        match self {
            Hand::Look => match board.ticket() {
                ticket if ticket.take(who).is_some() => Hand::Take(ticket),
                _ => Hand::Idle,
            },
            Hand::Take(ticket) => match ticket.take(who) {
                Some((band, less)) if board.exchange(ticket, less) => Hand::Run(band),
                // Another thread was faster, or the layer is done.
                _ => Hand::Look,
            },
            Hand::Report => {
                board.report();
                Hand::Look
            }
            Hand::Run(_) | Hand::Idle => self,
        }
    }
}

/// What a helper does next, from when its task begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Helper {
    /// its scratch is its own
    In(Hand),
    /// it has waited in vain: gives its scratch back
    SignOff,
    /// looks whether a band was opened while the leader took it for present
    LookBack,
    /// there is one: comes back, unless the leader has called another in its place
    SignOn,
    /// its task ends
    Gone,
}

impl Helper {
    /// One step. `Run` and `Idle` are left to whoever drives the machine: an idle helper looks again or signs off.
    pub fn next(self, board: &impl Board, who: usize) -> Self {
        match self {
            Helper::In(hand) => Helper::In(hand.next(board, who)),
            Helper::SignOff => {
                board.sign(who, false);
                Helper::LookBack
            }
            Helper::LookBack if board.ticket().take(who).is_some() => Helper::SignOn,
            Helper::SignOn if !board.sign(who, true) => Helper::In(Hand::Look),
            Helper::LookBack | Helper::SignOn | Helper::Gone => Helper::Gone,
        }
    }
}

/// What the leader does next for one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Leader {
    /// no band of a layer before is open: nobody reads the closure, which may be set
    Prepare,
    /// opens all bands
    Publish,
    /// calls helper `who`, if it is not there
    Call(usize),
    /// a helper's task is to be started: for whoever drives the machine, who then calls the next
    Start(usize),
    /// works itself
    In(Hand),
    /// looks whether all bands are done
    Check,
    /// they are; nobody reads the closure any more
    Done,
}

impl Leader {
    /// One step of a layer of `bands` bands on `threads` threads. `Start` and `Run` are left to whoever drives it.
    pub fn next(self, board: &impl Board, bands: usize, threads: usize) -> Self {
        match self {
            Leader::Prepare => {
                board.forget_reports();
                Leader::Publish
            }
            Leader::Publish => {
                board.publish(Ticket::open(bands));
                Leader::Call(1)
            }
            Leader::Call(who) if who < threads => {
                if board.sign(who, true) {
                    Leader::Call(who + 1)
                } else {
                    Leader::Start(who)
                }
            }
            Leader::Call(_) => Leader::In(Hand::Look),
            Leader::In(Hand::Idle) => Leader::Check,
            Leader::In(hand) => Leader::In(hand.next(board, 0)),
            Leader::Check if board.reported() == bands => Leader::Done,
            Leader::Check => Leader::In(Hand::Look),
            Leader::Start(_) | Leader::Done => self,
        }
    }
}
