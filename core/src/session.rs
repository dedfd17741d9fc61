//! A planned and packed network that owns its memory, and runs of it.

use alloc::{collections::BTreeMap, sync::Arc};

#[cfg(not(feature = "parallel"))]
use crate::threads::Serial;
#[cfg(feature = "parallel")]
use crate::threads::Team;
use crate::{
    Elem, Error,
    graph::{Graph, Net},
    memory::Buffer,
    plan::{Options, Packed, Plan, Step},
};

/// A plan together with its packed weights. Immutable: share it between threads and sessions.
pub struct PackedNet {
    plan: Plan,
    packed: Arc<Packed>,
}

impl PackedNet {
    /// Plans and packs `net`. The network and its weights are not needed afterwards.
    ///
    /// # Errors
    /// As [`Plan::new`]; [`Error::OutOfMemory`] when there is too little for the packed weights.
    pub fn new(net: &Net<'_>, options: &Options) -> Result<Self, Error> {
        let plan = Plan::new(net, options)?;
        #[cfg(feature = "std")]
        let packed = plan.prepack_in_parallel(net)?;
        #[cfg(not(feature = "std"))]
        let packed = plan.prepack(net)?;
        Ok(PackedNet { plan, packed: Arc::new(packed) })
    }

    /// The same weights, planned for other options or for a graph with other inputs: nothing is packed again.
    ///
    /// # Errors
    /// As [`Plan::for_packed`].
    pub fn replanned(&self, graph: &Graph, options: &Options) -> Result<Self, Error> {
        let plan = Plan::for_packed(graph, options, &self.packed)?;
        Ok(PackedNet { plan, packed: Arc::clone(&self.packed) })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of its packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.packed.bytes()
    }
}

/// The memory one run needs, and the threads that share it.
///
/// ```
/// use residual_core::{resnet::fold_batch_norm, plan::Options, session::Session, testing::Generated};
///
/// let weights = Generated::new("resnet20-cifar".parse()?);
/// let net = fold_batch_norm(weights.spec(), &weights)?;
/// let mut session = Session::new(&net, &Options::default())?;
/// let logits = session.run(&vec![0.5f32; 32 * 32 * 3])?;
/// assert_eq!(logits.len(), 10);
/// # Ok::<(), residual_core::Error>(())
/// ```
pub struct Session {
    model: Arc<PackedNet>,
    /// for fewer images than the batch, by their number
    smaller: BTreeMap<usize, Plan>,
    /// images of the last run
    images: usize,
    arena: Buffer,
    #[cfg(not(feature = "parallel"))]
    scratch: Buffer,
    #[cfg(feature = "parallel")]
    team: Team,
}

impl Session {
    /// Plans and packs `net`, and starts `options.threads - 1` helper threads, but no more than
    /// affinity and quotas let run beside this one (feature `parallel`; without it everything runs on
    /// the calling thread).
    ///
    /// # Errors
    /// As [`PackedNet::new`] and [`Session::with_model`].
    pub fn new(net: &Net<'_>, options: &Options) -> Result<Self, Error> {
        Session::with_model(Arc::new(PackedNet::new(net, options)?))
    }

    /// A session on a shared model, with helper threads of its own. In a process that was forked since, it runs on the
    /// calling thread.
    ///
    /// # Errors
    /// [`Error::Threads`] when the threads cannot be started, [`Error::OutOfMemory`] when there is too little memory for
    /// the plan's maps.
    pub fn with_model(model: Arc<PackedNet>) -> Result<Self, Error> {
        #[cfg(feature = "parallel")]
        {
            let asked = model.plan.options().threads;
            // More threads than this process may run at once would only take turns.
            let threads = asked.min(std::thread::available_parallelism().map_or(asked, usize::from));
            if threads == 1 {
                return Session::in_pool_of(model, None);
            }
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads - 1)
                .thread_name(|i| std::format!("residual-{}", i + 1))
                .build()
                .map_err(|_| Error::Threads { asked })?;
            Session::in_pool_of(model, Some(Arc::new(pool)))
        }
        #[cfg(not(feature = "parallel"))]
        {
            let arena = Buffer::try_new(model.plan.arena_len())?;
            let scratch = Buffer::try_new(model.plan.scratch_len())?;
            Ok(Session { model, smaller: BTreeMap::new(), images: 0, arena, scratch })
        }
    }

    /// A session whose helpers come from the caller's pool, which may be the one it is called from. It
    /// never waits for a busy pool: bands that no helper takes run on the calling thread.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is too little memory for the plan's maps.
    #[cfg(feature = "parallel")]
    pub fn in_pool(model: Arc<PackedNet>, pool: Arc<rayon::ThreadPool>) -> Result<Self, Error> {
        Session::in_pool_of(model, Some(pool))
    }

    #[cfg(feature = "parallel")]
    fn in_pool_of(model: Arc<PackedNet>, pool: Option<Arc<rayon::ThreadPool>>) -> Result<Self, Error> {
        let plan = &model.plan;
        // In a smaller pool some helpers would only wait for the others to end.
        let threads = plan.options().threads.min(1 + pool.as_ref().map_or(0, |pool| pool.current_num_threads()));
        let team = Team::new(pool, threads, plan.scratch_len())?;
        let arena = Buffer::try_new(plan.arena_len())?;
        Ok(Session { smaller: BTreeMap::new(), images: 0, arena, team, model })
    }

    /// What it runs.
    pub fn model(&self) -> &Arc<PackedNet> {
        &self.model
    }

    /// Threads it runs on at most, the calling one among them: as many as its options ask for, or fewer.
    pub fn threads(&self) -> usize {
        #[cfg(feature = "parallel")]
        return self.team.threads();
        #[cfg(not(feature = "parallel"))]
        1
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.model.plan
    }

    /// Runs up to `batch` images (NHWC) and returns the first output: their rows of logits. Fewer images than the batch
    /// cost what a smaller batch does; the first run with another number of images plans it.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when `images` does not hold 1 to `batch` whole images, [`Error::ElementType`] when the
    /// network reads or writes another type.
    pub fn run<T: Elem>(&mut self, images: &[T]) -> Result<&[T], Error> {
        self.run_with(images, |_, _| {})
    }

    /// Like [`Session::run`]; calls `after(step, output)` behind every layer, to time or to look at
    /// them. Layers with large maps run on some images of the batch at a time: several calls, in order.
    ///
    /// # Errors
    /// As for [`Session::run`].
    pub fn run_with<T: Elem>(&mut self, images: &[T], mut after: impl FnMut(&Step, &[T])) -> Result<&[T], Error> {
        self.run_editing(images, |step, output| after(step, output))
    }

    /// Like [`Session::run_with`], and what `edit` makes of a layer's output is what later layers read.
    ///
    /// # Errors
    /// As for [`Session::run`].
    pub fn run_editing<T: Elem>(&mut self, images: &[T], edit: impl FnMut(&Step, &mut [T])) -> Result<&[T], Error> {
        let one = self.model.plan.input().shape.elements();
        let count = images.len() / one;
        if !(1..=self.model.plan.options().batch).contains(&count) || !images.len().is_multiple_of(one) {
            return Err(Error::BufferLength { what: "input", need: self.model.plan.input_len(), got: images.len() });
        }
        self.plan_for(count)?;
        let plan = self.smaller.get(&count).unwrap_or(&self.model.plan);
        let (packed, arena) = (&*self.model.packed, &mut self.arena);
        #[cfg(not(feature = "parallel"))]
        plan.execute_editing(images, packed, arena, &Serial::new(self.scratch.as_mut_slice()), edit)?;
        #[cfg(feature = "parallel")]
        self.team.run(|leader| plan.execute_editing(images, packed, arena, leader, edit))?;
        self.images = count;
        self.output(0)
    }

    /// Output `index` of the last run, by the order of [`Graph::outputs`]: as many images as it was given, NHWC.
    ///
    /// # Errors
    /// [`Error::NotRun`] before the first run; as [`Plan::output`].
    pub fn output<T: Elem>(&self, index: usize) -> Result<&[T], Error> {
        match (self.images, self.smaller.get(&self.images)) {
            (0, _) => Err(Error::NotRun),
            (_, Some(plan)) => plan.output(&self.arena, index),
            (_, None) => self.model.plan.output(&self.arena, index),
        }
    }

    /// Makes sure that there is a plan for this many images, and memory for it.
    fn plan_for(&mut self, images: usize) -> Result<(), Error> {
        if images == self.model.plan.options().batch || self.smaller.contains_key(&images) {
            return Ok(());
        }
        let plan = self.model.plan.with_batch(images)?;
        // A smaller batch hardly ever needs more: values are placed by their sizes, which change.
        if plan.arena_len() > self.arena.as_slice().len() {
            self.arena = Buffer::try_new(plan.arena_len())?;
        }
        self.smaller.insert(images, plan);
        Ok(())
    }
}

#[cfg(all(test, feature = "parallel"))]
mod tests {
    use std::sync::Arc;

    use rayon::prelude::*;

    use super::{PackedNet, Session};
    use crate::{Error, plan::Options, resnet::fold_batch_norm, testing::Generated};

    fn model(threads: usize) -> Arc<PackedNet> {
        let weights = Generated::new("resnet8-cifar-w4".parse().unwrap());
        let net = fold_batch_norm(weights.spec(), &weights).unwrap();
        Arc::new(PackedNet::new(&net, &Options { threads, ..Options::default() }).unwrap())
    }

    fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
        Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
    }

    /// Ends if no run loses a helper or a band, whatever the moment at which helpers come and go.
    #[test]
    fn many_short_runs_on_more_threads_than_cores_end_with_the_same_bits() {
        let image = Generated::signed("input", 32 * 32 * 3);
        let want = Session::with_model(model(1)).unwrap().run(&image).unwrap().to_vec();
        for threads in [2, 5] {
            let sessions = [
                Session::with_model(model(threads)).unwrap(),
                Session::in_pool(model(threads), pool(threads - 1)).unwrap(),
            ];
            for mut session in sessions {
                for _ in 0..500 {
                    assert_eq!(session.run(&image).unwrap(), want);
                }
            }
        }
    }

    /// Sessions inside tasks of the pool their helpers come from, more of them than it has threads.
    #[test]
    fn a_session_inside_its_own_pool_neither_waits_nor_changes_a_bit() {
        let image = Generated::signed("input", 32 * 32 * 3);
        let want = Session::with_model(model(1)).unwrap().run(&image).unwrap().to_vec();
        let model = model(3);
        for threads in [1, 2, 4] {
            let pool = pool(threads);
            let all: Vec<Vec<f32>> = pool.install(|| {
                let task = |_| {
                    let mut session = Session::in_pool(Arc::clone(&model), Arc::clone(&pool)).unwrap();
                    (0..20).for_each(|_| assert!(session.run(&image).is_ok()));
                    session.run(&image).unwrap().to_vec()
                };
                (0..8).into_par_iter().map(task).collect()
            });
            assert!(all.iter().all(|logits| *logits == want));
        }
    }

    /// A partial batch costs what it holds and changes no bit.
    #[test]
    fn fewer_images_than_the_batch_are_run_alone() {
        let weights = Generated::new("resnet8-cifar-w4".parse().unwrap());
        let net = fold_batch_norm(weights.spec(), &weights).unwrap();
        let images = Generated::signed("input", 5 * 32 * 32 * 3);
        let one = images.len() / 5;
        let mut alone = Session::with_model(model(1)).unwrap();
        let want: Vec<f32> = images.chunks(one).flat_map(|image| alone.run(image).unwrap().to_vec()).collect();
        let mut session = Session::new(&net, &Options { batch: 5, threads: 2, ..Options::default() }).unwrap();
        assert!(session.output::<f32>(0).is_err());
        for count in [5, 1, 3, 5, 2, 4] {
            assert_eq!(session.run(&images[..count * one]).unwrap(), &want[..count * 10], "{count} images");
            assert_eq!(session.output::<f32>(0).unwrap().len(), count * 10);
        }
        assert!(session.run(&images[..one + 1]).is_err() && session.run::<f32>(&[]).is_err());
        assert!(session.run(&[images.as_slice(), &images[..one]].concat()).is_err());
    }

    #[test]
    fn a_batch_that_no_memory_holds_is_an_error_that_says_how_much_was_asked_for() {
        let weights = Generated::new("resnet8-cifar-w4".parse().unwrap());
        let net = fold_batch_norm(weights.spec(), &weights).unwrap();
        let session = Session::new(&net, &Options { batch: 1 << 40, ..Options::default() });
        let Err(Error::OutOfMemory { bytes }) = session.map(|_| ()) else { panic!("accepted") };
        assert!(bytes >= 4 << 40);
    }

    /// Ends only if the session does not wait for its pool, which waits for the session's caller.
    #[test]
    fn a_session_in_a_pool_that_waits_for_it_does_all_the_work_itself() {
        let image = Generated::signed("input", 32 * 32 * 3);
        let want = Session::with_model(model(1)).unwrap().run(&image).unwrap().to_vec();
        let pool = pool(1);
        let mut session = Session::in_pool(model(2), Arc::clone(&pool)).unwrap();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        pool.spawn(move || wait.recv().unwrap_or_default());
        (0..3).for_each(|_| assert_eq!(session.run(&image).unwrap(), want));
        drop(done);
    }

    #[test]
    fn subnormal_inputs_give_the_same_bits_on_any_thread_and_leave_the_caller_his_own() {
        let image: Vec<f32> = Generated::signed("input", 32 * 32 * 3).iter().map(|v| v * 1e-39).collect();
        assert!(image.iter().any(|v| v.is_subnormal()));
        let zeros = vec![0.0; image.len()];
        let want = Session::with_model(model(1)).unwrap().run(&zeros).unwrap().to_vec();
        let half = || std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5);
        for threads in [1, 2, 4] {
            let mut session = Session::in_pool(model(threads), pool(threads)).unwrap();
            for _ in 0..50 {
                let logits = session.run_with(&image, |_, _| assert!(half() > 0.0)).unwrap();
                // Where subnormals count as zero the picture is black, on whichever thread.
                if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
                    assert_eq!(logits, want);
                }
            }
            assert!(half() > 0.0);
        }
    }
}
