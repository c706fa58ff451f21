//! A task's memory: its future, later its result, of any type.

use std::{
    any::Any,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::task_error::TaskError;

pin_project! {
    /// A task's memory: first its future, later its result.
    #[project = StageProjection]
    pub(super) enum Stage<F: Future, K: Ending<F::Output>> {
        Running { #[pin] future: F },
        Finished { result: Option<Result<K::Value, TaskError>> },
    }
}

/// Turns the output of a future into the result of its task.
pub(crate) trait Ending<O>: 'static {
    type Value: 'static;
    fn result(output: O) -> Result<Self::Value, TaskError>;
}

/// The output is the task's value.
pub(crate) struct Plain;

impl<O: 'static> Ending<O> for Plain {
    type Value = O;

    fn result(output: O) -> Result<O, TaskError> {
        Ok(output)
    }
}

/// The output is the task's result, which may be an error.
pub(crate) struct Fallible;

impl<T: 'static> Ending<Result<T, TaskError>> for Fallible {
    type Value = T;

    fn result(output: Result<T, TaskError>) -> Result<T, TaskError> {
        output
    }
}

/// A task with its type erased.
pub(crate) trait AnyTask {
    /// Polls once; `true` once there is a result.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool;
    /// Drops the future; the result is `error`.
    fn fail(self: Pin<&mut Self>, error: TaskError);
    /// Moves the result, if there is one, into `place`, a `Poll<Result<Output, TaskError>>`.
    fn take(self: Pin<&mut Self>, place: &mut dyn Any);
    /// The result in place, an `Option<Result<Output, TaskError>>`; `None` before the end.
    fn peek(&self) -> Option<&dyn Any>;
    fn panic_message(&self) -> Option<String>;
    /// Whether the result is a value.
    fn has_value(&self) -> bool;
}

impl<F: Future, K: Ending<F::Output>> AnyTask for Stage<F, K> {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let StageProjection::Running { future } = self.as_mut().project() else { return true };
        let Poll::Ready(value) = future.poll(cx) else { return false };
        self.set(Stage::Finished { result: Some(K::result(value)) });
        true
    }

    fn fail(mut self: Pin<&mut Self>, error: TaskError) {
        self.set(Stage::Finished { result: Some(Err(error)) });
    }

    fn take(self: Pin<&mut Self>, place: &mut dyn Any) {
        if let StageProjection::Finished { result } = self.project()
            && let Some(place) = place.downcast_mut()
            && let Some(result) = result.take()
        {
            *place = Poll::Ready(result);
        }
    }

    fn peek(&self) -> Option<&dyn Any> {
        match self {
            Stage::Running { .. } => None,
            Stage::Finished { result } => Some(result),
        }
    }

    fn panic_message(&self) -> Option<String> {
        match self {
            Stage::Finished { result: Some(Err(TaskError::Panicked(panic))) } => Some(panic.message()),
            _ => None,
        }
    }

    fn has_value(&self) -> bool {
        matches!(self, Stage::Finished { result: Some(Ok(_)) })
    }
}

pub(super) type BoxTask = Pin<Box<dyn AnyTask>>;
