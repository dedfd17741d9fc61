//! Threads that share the bands of one layer after another, entered once for a whole network.
//!
//! A fork and join for every layer would cost more than a small layer's work. Instead helpers join
//! once and take bands by an atomic ticket; between layers they spin for a moment. The leader
//! never waits for a thread that has not taken a band: with busy cores or a busy pool it does all
//! the work itself, so there is nothing to dead-lock on and nothing to over-subscribe.

use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};
use std::sync::Mutex;

use super::Executor;
use crate::{memory::Buffer, simd::FlushDenormals};

/// The work of one layer: a call for every band.
type Job<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync + 'a);

/// The open layer: its number, its bands, and how many of them were taken from the front and from the back.
///
/// Half of the threads take bands from the front and half from the back: layer after layer, a thread then finds most of
/// what it reads in its own cache.
#[derive(Clone, Copy)]
struct Ticket(u64);

impl Ticket {
    const FINISHED: Ticket = Ticket(u64::MAX);
    const BITS: u32 = 14;
    const MASK: u64 = (1 << Self::BITS) - 1;
    /// Most bands of a layer.
    const MAX: usize = Self::MASK as usize;

    const fn open(layer: u64, bands: u64) -> Self {
        Ticket((layer << (3 * Self::BITS)) | (bands << (2 * Self::BITS)))
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

    /// The ticket of the next layer; never [`Ticket::FINISHED`].
    const fn next(self, bands: usize) -> Self {
        let layer = (self.0 >> (3 * Self::BITS)) + 1;
        Self::open(layer & ((1 << (63 - 3 * Self::BITS)) - 1), bands as u64)
    }

    /// A band for thread `who`, and the ticket without it.
    const fn take(self, who: usize) -> Option<(usize, Self)> {
        if self.0 == u64::MAX || self.front() + self.back() >= self.bands() {
            None
        } else if who.is_multiple_of(2) {
            Some((self.front() as usize, Ticket(self.0 + 1)))
        } else {
            Some(((self.bands() - 1 - self.back()) as usize, Ticket(self.0 + (1 << Self::BITS))))
        }
    }
}

/// What leader and helpers share during one run.
pub struct Team<'s> {
    scratch: &'s [Mutex<Buffer>],
    ticket: AtomicU64,
    done: AtomicUsize,
    job: UnsafeCell<Option<Job<'static>>>,
}

// SAFETY: `job` is written by the leader only while no band is open (every band of the ticket before
// is done) and read by others only after they took a band of the ticket published behind the write.
unsafe impl Sync for Team<'_> {}

impl<'s> Team<'s> {
    /// Runs `lead` on this thread with up to `scratch.len() - 1` helpers from `pool`.
    pub fn run<R>(
        pool: &rayon::ThreadPool,
        scratch: &'s [Mutex<Buffer>],
        lead: impl FnOnce(&Leader<'_, 's>) -> R,
    ) -> R {
        let team = Team { scratch, ticket: AtomicU64::new(0), done: AtomicUsize::new(0), job: UnsafeCell::new(None) };
        pool.in_place_scope(|scope| {
            // Dropped on unwinding too: helpers must leave for the scope to end.
            let leader = Leader(&team);
            for worker in 1..scratch.len() {
                let team = &team;
                scope.spawn(move |_| team.help(worker));
            }
            lead(&leader)
        })
    }

    /// Takes a band of the open layer and runs it, as thread `who`.
    fn take(&self, who: usize, scratch: &mut [f32]) -> bool {
        let ticket = Ticket(self.ticket.load(Ordering::Acquire));
        let Some((band, less)) = ticket.take(who) else { return false };
        // Not a plain addition: it could turn a ticket that has just become `FINISHED` into another.
        if self.ticket.compare_exchange(ticket.0, less.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        // SAFETY: this band of the open layer is ours and not done, so the leader waits in
        // `for_each`: the job is alive and nobody writes the cell.
        if let Some(job) = unsafe { *self.job.get() } {
            let whole = AbortOnUnwind;
            job(band, scratch);
            core::mem::forget(whole);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    fn help(&self, worker: usize) {
        let Ok(mut scratch) = self.scratch[worker].lock() else { return };
        let _flush = FlushDenormals::new();
        let mut patience = Patience::default();
        while self.ticket.load(Ordering::Relaxed) != Ticket::FINISHED.0 {
            if self.take(worker, scratch.as_mut_slice()) { patience = Patience::default() } else { patience.wait() }
        }
    }
}

/// The thread that runs the plan.
pub struct Leader<'t, 's>(&'t Team<'s>);

impl Drop for Leader<'_, '_> {
    fn drop(&mut self) {
        self.0.ticket.store(Ticket::FINISHED.0, Ordering::Release);
    }
}

impl Executor for Leader<'_, '_> {
    fn for_each(&self, n: usize, band: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let team = self.0;
        let Ok(mut scratch) = team.scratch[0].lock() else { return };
        let scratch = scratch.as_mut_slice();
        if n <= 1 || n > Ticket::MAX {
            return (0..n).for_each(|i| band(i, scratch));
        }
        // SAFETY: only the lifetime changes. The job is called for bands of this ticket only, and this
        // function does not return, nor unwind (see `AbortOnUnwind`), before all of them are done.
        let job = unsafe { core::mem::transmute::<Job<'_>, Job<'static>>(band) };
        // SAFETY: every band of the ticket before is done, so nobody reads the cell now.
        unsafe { *team.job.get() = Some(job) };
        team.done.store(0, Ordering::Relaxed);
        let ticket = Ticket(team.ticket.load(Ordering::Relaxed)).next(n);
        team.ticket.store(ticket.0, Ordering::Release);
        let mut patience = Patience::default();
        while team.done.load(Ordering::Acquire) < n {
            if !team.take(0, scratch) {
                patience.wait();
            }
        }
    }
}

/// A band that panics on the leader would leave helpers with a job that is gone; one that panics on
/// a helper would leave the leader waiting for ever. Neither can be repaired.
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
    fn wait(&mut self) {
        if self.0 < 4000 {
            self.0 += 1;
            core::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ticket;

    #[test]
    fn a_ticket_gives_every_band_once_from_both_ends_and_never_ends_by_itself() {
        for bands in [1, 2, 7, Ticket::MAX] {
            let mut ticket = Ticket(Ticket::FINISHED.0 - 1).next(bands);
            let mut seen = vec![0; bands];
            for who in (0..).take(bands) {
                assert_ne!(ticket.0, Ticket::FINISHED.0);
                let (band, less) = ticket.take(who % 3).unwrap();
                seen[band] += 1;
                ticket = less;
            }
            assert!(ticket.take(0).is_none() && ticket.take(1).is_none());
            assert!(seen.iter().all(|&n| n == 1));
        }
        assert!(Ticket::FINISHED.take(0).is_none());
        let (front, back) = (Ticket::open(1, 4).take(0).unwrap().0, Ticket::open(1, 4).take(1).unwrap().0);
        assert_eq!((front, back), (0, 3));
    }
}
