//! Threads that share the bands of one layer after another.
//!
//! A fork and join for every layer would cost more than a small layer's work. Instead helpers come once, stay while there
//! is something to do, and take bands off a ticket; between layers they spin for a moment. The leader waits for bands that
//! a helper has taken and for nothing else: with busy cores or a busy pool it does all the work itself, so there is
//! nothing to dead-lock on and nothing to over-subscribe. [`protocol`] says why that is sound.

mod protocol;
#[cfg(test)]
mod tests;

use core::{
    any::Any,
    cell::{RefCell, UnsafeCell},
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use std::{
    boxed::Box,
    panic::{catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError},
    vec::Vec,
};

use super::Executor;
use crate::{Error, memory::Buffer, simd::with_flushed_denormals};
use protocol::{Board, Hand, Helper, Leader as Lead, Ticket};

/// The work of one layer: a call for every band.
type Job<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

/// The calling thread and its helpers, with scratch for each.
///
/// Helpers come from a pool that others may use too. They take subnormal numbers as zero.
pub struct Team {
    pool: Option<Arc<rayon::ThreadPool>>,
    shared: Arc<Shared>,
    scratch: Buffer,
    /// in a forked child the pool's threads do not exist
    process: u32,
}

/// What the leader and its helpers own together: a helper may begin when the leader's run, or the team, is over.
struct Shared {
    ticket: AtomicU64,
    done: AtomicUsize,
    job: UnsafeCell<Option<*const Job<'static>>>,
    scratch_len: usize,
    /// the first panic of a band of the open layer
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// thread `who` is the one at `who - 1`
    helpers: Vec<Seat>,
}

struct Seat {
    /// called and not signed off
    present: AtomicBool,
    scratch: Mutex<Buffer>,
}

// SAFETY: `job` is written by the leader only while no band is open (every band of the layer before is reported), and read
// only by threads that have taken a band of the ticket published behind the write and not yet reported it. What it points
// to is `Sync`. Everything else is `Send` and `Sync` by itself.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shared {}

impl Team {
    /// `threads - 1` helpers from `pool` (without one: none), each thread with `scratch_len` elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is too little memory for the scratch.
    pub fn new(pool: Option<Arc<rayon::ThreadPool>>, threads: usize, scratch_len: usize) -> Result<Self, Error> {
        let helpers = if pool.is_some() { threads.saturating_sub(1) } else { 0 };
        let seat = |_| {
            let scratch = Mutex::new(Buffer::try_new(scratch_len)?);
            Ok(Seat { present: AtomicBool::new(false), scratch })
        };
        let shared = Shared {
            ticket: AtomicU64::new(Ticket::FINISHED.0),
            done: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            scratch_len,
            panic: Mutex::new(None),
            helpers: (0..helpers).map(seat).collect::<Result<_, Error>>()?,
        };
        Ok(Team { pool, shared: Arc::new(shared), scratch: Buffer::try_new(scratch_len)?, process: process() })
    }

    /// Threads that it runs on at most, the calling one among them.
    pub fn threads(&self) -> usize {
        1 + self.shared.helpers.len()
    }

    /// Runs `lead` on this thread, with the helpers at hand that are free.
    ///
    /// # Panics
    /// When `lead` does, or a band on whichever thread. The team stays usable.
    pub fn run<R>(&mut self, lead: impl FnOnce(&Leader<'_>) -> R) -> R {
        let pool = self.pool.as_deref().filter(|_| self.process == process());
        // Dropped on unwinding too: helpers are sent home.
        let leader = Leader { pool, shared: &self.shared, scratch: RefCell::new(self.scratch.as_mut_slice()) };
        lead(&leader)
    }
}

/// A number for this process, where there is a way to copy a process.
fn process() -> u32 {
    if cfg!(unix) { std::process::id() } else { 0 }
}

impl Board for Shared {
    fn ticket(&self) -> Ticket {
        Ticket(self.ticket.load(Ordering::Acquire))
    }
    fn publish(&self, ticket: Ticket) {
        self.ticket.store(ticket.0, Ordering::Release);
    }
    fn exchange(&self, from: Ticket, to: Ticket) -> bool {
        self.ticket.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
    fn report(&self) {
        self.done.fetch_add(1, Ordering::Release);
    }
    fn reported(&self) -> usize {
        self.done.load(Ordering::Acquire)
    }
    fn forget_reports(&self) {
        self.done.store(0, Ordering::Relaxed);
    }
    fn sign(&self, who: usize, present: bool) -> bool {
        self.helpers[who - 1].present.swap(present, Ordering::AcqRel)
    }
}

impl Shared {
    /// Runs a band; a panic is kept for the leader.
    ///
    /// # Safety
    /// The band was taken off the ticket and is not reported.
    unsafe fn run_band(&self, band: usize, scratch: &mut [f32]) {
        // SAFETY: the caller's band is not reported, so the leader is in `for_each`: nobody writes the cell.
        let Some(job) = (unsafe { *self.job.get() }) else { return };
        // SAFETY: for the same reason the closure is alive; `Leader::for_each` borrows it.
        let job = unsafe { &*job };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(band, scratch))) {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }

    /// A helper's task, from its beginning, whenever that is.
    fn help(&self, who: usize) {
        let mut step = Helper::In(Hand::Look);
        while step != Helper::Gone {
            step = match step {
                Helper::In(hand) => {
                    // Free: of the tasks with this number only one is signed in.
                    let mut scratch = self.helpers[who - 1].scratch.lock().unwrap_or_else(PoisonError::into_inner);
                    with_flushed_denormals(|| self.work(who, Helper::In(hand), scratch.as_mut_slice()))
                }
                step => step.next(self, who),
            };
        }
    }

    /// Works until there is nothing to do for a while.
    fn work(&self, who: usize, mut step: Helper, scratch: &mut [f32]) -> Helper {
        let mut patience = Patience::default();
        loop {
            step = match step {
                Helper::In(Hand::Run(band)) => {
                    patience = Patience::default();
                    // SAFETY: `Hand::Take` took the band just now.
                    unsafe { self.run_band(band, scratch) };
                    Helper::In(Hand::Report)
                }
                Helper::In(Hand::Idle) if self.ticket() == Ticket::FINISHED || patience.is_over() => Helper::SignOff,
                Helper::In(Hand::Idle) => {
                    patience.wait();
                    Helper::In(Hand::Look)
                }
                Helper::In(_) => step.next(self, who),
                out => return out,
            };
        }
    }
}

/// The thread that runs the plan.
pub struct Leader<'t> {
    pool: Option<&'t rayon::ThreadPool>,
    shared: &'t Arc<Shared>,
    /// taken while a layer is open; not `Sync`, so that no other thread can open one
    scratch: RefCell<&'t mut [f32]>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.shared.publish(Ticket::FINISHED);
    }
}

impl Executor for Leader<'_> {
    /// A band's panic, on whichever thread, goes on here when no other band is running any more.
    fn for_each(&self, n: usize, band: &Job<'_>) {
        let Ok(mut scratch) = self.scratch.try_borrow_mut() else {
            // Called from a band on this thread, whose scratch is in use.
            let mut own = Buffer::new(self.shared.scratch_len);
            return (0..n).for_each(|i| band(i, own.as_mut_slice()));
        };
        match self.pool {
            Some(pool) if n > 1 && n <= Ticket::MAX => self.share(pool, n, band, &mut scratch),
            _ => (0..n).for_each(|i| band(i, &mut scratch)),
        }
    }
}

impl Leader<'_> {
    fn share(&self, pool: &rayon::ThreadPool, n: usize, band: &Job<'_>, scratch: &mut [f32]) {
        let (shared, threads) = (self.shared, 1 + self.shared.helpers.len());
        let whole = AbortOnUnwind;
        // SAFETY: only the lifetime changes. The job is called for bands of this layer only, and this function does not
        // return or, for `whole`, unwind before all of them are reported.
        let job = unsafe { core::mem::transmute::<*const Job<'_>, *const Job<'static>>(band) };
        // SAFETY: every band of the layer before is reported, so nobody reads the cell.
        unsafe { *shared.job.get() = Some(job) };
        let (mut step, mut patience) = (Lead::Prepare, Patience::default());
        while step != Lead::Done {
            step = match step {
                Lead::Start(who) => {
                    let shared = Arc::clone(shared);
                    pool.spawn(move || shared.help(who));
                    Lead::Call(who + 1)
                }
                Lead::In(Hand::Run(band)) => {
                    // SAFETY: `Hand::Take` took the band just now.
                    unsafe { shared.run_band(band, scratch) };
                    Lead::In(Hand::Report)
                }
                Lead::In(Hand::Idle) => {
                    if shared.reported() < n {
                        patience.wait();
                    }
                    Lead::Check
                }
                step => step.next(&**shared, n, threads),
            };
        }
        core::mem::forget(whole);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// Ends the process if the leader would leave a layer whose bands still run. A band's panic is caught; nothing else there
/// panics but what cannot go on anyway, such as a task for which there is no memory.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Spins for some microseconds, then gives the core away between looks.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    const SPINS: u32 = 4000;
    const YIELDS: u32 = 4000;

    fn wait(&mut self) {
        self.0 = self.0.saturating_add(1);
        if self.0 < Self::SPINS {
            core::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }

    /// A helper leaves then: its thread may be wanted elsewhere. The leader calls it again.
    fn is_over(&self) -> bool {
        self.0 >= Self::SPINS + Self::YIELDS
    }
}
