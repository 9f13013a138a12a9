//! Fair allocation of the kernel's worker threads.
//!
//! A file system that does not answer occupies its worker for as long as it likes. So a worker is
//! used with a [`Permit`], given to an [`Owner`] within bounds that leave workers for others: a
//! user of a device holds at most as many as are free, and all users of a device together at most
//! twice as many (the dynamic thresholds of Choudhury and Hahne, 1998, for queues that share the
//! buffer of a switch). Of 32, a single user gets 16, and all users of its device 22. When that
//! device is stuck, another user of the same device gets 6, and one of another device 8. Devices
//! that get stuck one after the other each leave something for the next, except for the last few.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A user of workers, for which they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The device of the file system that its workers may wait for.
    pub device: u32,
    /// One user of that device: a root, or the content of files.
    pub user: u32,
}

/// The right to occupy a worker, returned when dropped. With [`Op::holding`](crate::Op::holding) it
/// lasts as long as the worker is occupied.
pub struct Permit {
    shares: Rc<Shares>,
    owner: Owner,
}

/// The workers, and the owners that hold them.
pub struct Shares {
    max: usize,
    given: Cell<usize>,
    /// One for each owner that holds a permit or waits for one.
    accounts: RefCell<Vec<Account>>,
}

struct Account {
    owner: Owner,
    held: usize,
    waiting: VecDeque<Waiting>,
}

enum Waiting {
    Task(Rc<Waiter>),
    Call(Box<dyn FnOnce(Permit)>),
}

/// A task in the queue.
#[derive(Default)]
struct Waiter {
    permit: Cell<Option<Permit>>,
    waker: Cell<Option<Waker>>,
}

impl Shares {
    /// Allocates `max` workers.
    pub fn new(max: usize) -> Rc<Self> {
        Rc::new(Self {
            max,
            given: Cell::new(0),
            accounts: RefCell::default(),
        })
    }

    /// Permits in use.
    pub fn given(&self) -> usize {
        self.given.get()
    }

    /// Waiters of all owners.
    pub fn waiting(&self) -> usize {
        let accounts = self.accounts.borrow();
        accounts.iter().map(|account| account.waiting.len()).sum()
    }

    /// Waiters of `owner`.
    pub fn waiting_of(&self, owner: Owner) -> usize {
        let accounts = self.accounts.borrow();
        let account = accounts.iter().find(|account| account.owner == owner);
        account.map_or(0, |account| account.waiting.len())
    }

    /// Takes a permit, if one is available at once.
    pub fn try_take(self: &Rc<Self>, owner: Owner) -> Option<Permit> {
        let mut accounts = self.accounts.borrow_mut();
        let waits = |account: &Account| account.owner == owner && !account.waiting.is_empty();
        let free = self.has_one_for(&accounts, owner) && !accounts.iter().any(waits);
        free.then(|| self.give(&mut accounts, owner))
    }

    /// Waits for a permit, behind earlier waiters of the same owner. Dropped: leaves the queue.
    pub fn take(self: &Rc<Self>, owner: Owner) -> impl Future<Output = Permit> {
        Take {
            shares: self,
            owner,
            waiter: None,
        }
    }

    /// Calls `act` with a permit: now, or when one is available.
    pub fn then(self: &Rc<Self>, owner: Owner, act: impl FnOnce(Permit) + 'static) {
        match self.try_take(owner) {
            Some(permit) => act(permit),
            None => self.queue(owner, Waiting::Call(Box::new(act))),
        }
    }

    fn queue(&self, owner: Owner, waiting: Waiting) {
        let mut accounts = self.accounts.borrow_mut();
        account(&mut accounts, owner).waiting.push_back(waiting);
    }

    fn has_one_for(&self, accounts: &[Account], owner: Owner) -> bool {
        let free = self.max - self.given.get();
        let (mut of_owner, mut of_device) = (0, 0);
        for account in accounts {
            if account.owner.device == owner.device {
                of_device += account.held;
            }
            if account.owner == owner {
                of_owner = account.held;
            }
        }
        of_owner < free && of_device < 2 * free
    }

    fn give(self: &Rc<Self>, accounts: &mut Vec<Account>, owner: Owner) -> Permit {
        self.given.set(self.given.get() + 1);
        account(accounts, owner).held += 1;
        Permit {
            shares: Rc::clone(self),
            owner,
        }
    }

    /// The next waiter that can have a permit: the first of the owner that holds the fewest.
    fn next(self: &Rc<Self>) -> Option<(Permit, Waiting)> {
        let mut accounts = self.accounts.borrow_mut();
        let served = accounts
            .iter()
            .filter(|account| !account.waiting.is_empty())
            .filter(|account| self.has_one_for(&accounts, account.owner))
            .min_by_key(|account| account.held)?
            .owner;
        let waiting = account(&mut accounts, served).waiting.pop_front()?;
        Some((self.give(&mut accounts, served), waiting))
    }

    fn take_back(&self, owner: Owner) {
        self.given.set(self.given.get() - 1);
        let mut accounts = self.accounts.borrow_mut();
        account(&mut accounts, owner).held -= 1;
        accounts.retain(Account::is_needed);
    }
}

/// The account of `owner`, opened if there is none.
fn account(accounts: &mut Vec<Account>, owner: Owner) -> &mut Account {
    let found = accounts.iter().position(|account| account.owner == owner);
    let index = found.unwrap_or_else(|| {
        accounts.push(Account {
            owner,
            held: 0,
            waiting: VecDeque::new(),
        });
        accounts.len() - 1
    });
    &mut accounts[index]
}

impl Account {
    fn is_needed(&self) -> bool {
        self.held > 0 || !self.waiting.is_empty()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shares.take_back(self.owner);
        // No `RefCell` is borrowed while others act.
        while let Some((permit, waiting)) = self.shares.next() {
            match waiting {
                Waiting::Task(waiter) => waiter.give(permit),
                Waiting::Call(act) => act(permit),
            }
        }
    }
}

impl Waiter {
    fn give(&self, permit: Permit) {
        self.permit.set(Some(permit));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Written by hand: it is part of every transfer, and an async fn would make that larger.
struct Take<'a> {
    shares: &'a Rc<Shares>,
    owner: Owner,
    /// `None` until it waits.
    waiter: Option<Rc<Waiter>>,
}

impl Take<'_> {
    fn join_queue(&self) -> Rc<Waiter> {
        let waiter = Rc::new(Waiter::default());
        let waiting = Waiting::Task(Rc::clone(&waiter));
        self.shares.queue(self.owner, waiting);
        waiter
    }
}

impl Future for Take<'_> {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let permit = match &self.waiter {
            Some(waiter) => waiter.permit.take(),
            None => self.shares.try_take(self.owner),
        };
        if let Some(permit) = permit {
            return Poll::Ready(permit);
        }
        let waiter = self.waiter.take().unwrap_or_else(|| self.join_queue());
        waiter.waker.set(Some(context.waker().clone()));
        self.waiter = Some(waiter);
        Poll::Pending
    }
}

impl Drop for Take<'_> {
    /// Leaves the queue; a permit that was given and not taken passes to the next waiter.
    fn drop(&mut self) {
        let Some(own) = &self.waiter else { return };
        let mut accounts = self.shares.accounts.borrow_mut();
        account(&mut accounts, self.owner)
            .waiting
            .retain(|other| !matches!(other, Waiting::Task(waiter) if Rc::ptr_eq(waiter, own)));
        accounts.retain(Account::is_needed);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    /// Device, user, and how many it gets.
    type Taker = (u32, u32, usize);

    fn owner(device: u32, user: u32) -> Owner {
        Owner { device, user }
    }

    /// All permits that `owner` can have at once.
    fn take_all(shares: &Rc<Shares>, owner: Owner) -> Vec<Permit> {
        std::iter::from_fn(|| shares.try_take(owner)).collect()
    }

    #[test]
    fn nobody_gets_so_many_that_others_are_left_without() {
        // The number of workers; the owners that each take all they can get, and how many that is.
        let cases: [(usize, &[Taker]); 7] = [
            (0, &[(1, 1, 0)]),
            (1, &[(1, 1, 1), (2, 1, 0)]),
            (2, &[(1, 1, 1), (2, 1, 1)]),
            (
                32,
                &[(1, 1, 16), (2, 1, 8), (3, 1, 4), (4, 1, 2), (5, 1, 1)],
            ),
            // Of one device.
            (
                32,
                &[(1, 1, 16), (1, 2, 6), (1, 3, 0), (2, 1, 5), (2, 2, 2)],
            ),
            (32, &[(1, 1, 16), (2, 1, 8), (1, 2, 0), (2, 2, 3)]),
            (16, &[(1, 1, 8), (1, 2, 3), (2, 1, 3)]),
        ];
        for (max, takers) in cases {
            let shares = Shares::new(max);
            let mut held = Vec::new();
            for (device, user, expected) in takers {
                let permits = take_all(&shares, owner(*device, *user));
                assert_eq!(permits.len(), *expected, "of {max}: {device} {user}");
                held.extend(permits);
            }
            assert_eq!(shares.given(), held.len());
            drop(held);
            assert_eq!(shares.given(), 0);
            assert!(shares.accounts.borrow().is_empty());
        }
    }

    #[test]
    fn waiters_are_served_in_order_and_past_owners_at_their_bound() {
        block_on(async {
            let shares = Shares::new(4);
            let stuck = take_all(&shares, owner(1, 1));
            let mut more = Box::pin(shares.take(owner(1, 1)));
            assert!(poll_once(&mut more).await.is_none());
            let other = shares.take(owner(2, 1)).await;
            let mut first = Box::pin(shares.take(owner(2, 1)));
            let mut second = Box::pin(shares.take(owner(2, 1)));
            assert!(poll_once(&mut first).await.is_none());
            assert!(poll_once(&mut second).await.is_none());
            assert_eq!((shares.waiting(), shares.waiting_of(owner(2, 1))), (3, 2));
            drop(other);
            let first = first.await;
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut more).await.is_none(), "it has its share");
            drop(first);
            drop((second.await, stuck));
            drop(more.await);
            assert_eq!((shares.given(), shares.waiting()), (0, 0));
        });
    }

    #[test]
    fn a_dropped_waiter_passes_its_permit_on() {
        block_on(async {
            let shares = Shares::new(1);
            let first = shares.take(owner(1, 1)).await;
            let mut gone = Box::pin(shares.take(owner(1, 1)));
            let mut leaver = Box::pin(shares.take(owner(1, 1)));
            let called = Rc::new(Cell::new(0));
            assert!(poll_once(&mut gone).await.is_none());
            assert!(poll_once(&mut leaver).await.is_none());
            let count = Rc::clone(&called);
            shares.then(owner(1, 1), move |_| count.set(count.get() + 1));
            drop(gone);
            drop(first);
            assert_eq!((shares.given(), called.get()), (1, 0));
            drop(leaver);
            assert_eq!((shares.given(), called.get()), (0, 1));
            assert!(shares.accounts.borrow().is_empty());
        });
    }
}
