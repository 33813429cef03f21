//! Work that several do at a time.

use anyhow::Result;
use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Has `count` workers do `work` on all items, each with what `start` gives it to keep; what came of the items, in their
/// order.
///
/// # Errors
/// That of the first worker that has one; the others go on to the end of the items. A panic goes on here.
pub fn map<I: Send, K, T: Send>(
    count: NonZero<usize>,
    items: impl IntoIterator<Item = I>,
    start: impl Fn() -> Result<K> + Sync,
    work: impl Fn(&mut K, I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let items: Vec<_> = items.into_iter().enumerate().collect();
    let queue = Mutex::new(items.into_iter());
    let done = Mutex::new(Vec::new());
    let one = || -> Result<()> {
        let mut kept = start()?;
        loop {
            // A statement of its own: the lock ends with it.
            let next = lock(&queue).next();
            let Some((index, item)) = next else { return Ok(()) };
            let made = work(&mut kept, item)?;
            lock(&done).push((index, made));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..count.get()).map(|_| scope.spawn(one)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, made)| made).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::map;
    use anyhow::bail;
    use std::num::NonZero;
    use std::sync::Barrier;

    const TWO: NonZero<usize> = NonZero::new(2).unwrap();

    #[test]
    fn the_order_is_that_of_the_items() {
        // The two meet at every item, so neither does all of them.
        let both = Barrier::new(2);
        let work = |kept: &mut usize, item: usize| {
            both.wait();
            *kept += 1;
            Ok((item, *kept))
        };
        let done = map(TWO, 0..10, || Ok(0), work).unwrap();
        assert_eq!(done.iter().map(|(item, _)| *item).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!(done.iter().map(|(_, kept)| *kept).max(), Some(5));
    }

    #[test]
    fn an_error_is_told() {
        let work = |(): &mut (), item| if item == 3 { bail!("item {item}") } else { Ok(item) };
        assert_eq!(map(TWO, 0..10, || Ok(()), work).unwrap_err().to_string(), "item 3");
    }
}
