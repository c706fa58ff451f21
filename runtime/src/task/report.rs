//! `Task::report_error`: an `Err` that nobody awaits is reported.

use std::{
    fmt::Display,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use crate::{
    event_loop::{current::Loop, exception::call_exception_handler, exceptions::ExceptionContext},
    scheduler::{task_error::TaskError, task_info::TaskInfo, task_key::TaskKey},
    task::Task,
};

impl<T: 'static, E: Display + 'static> Task<Result<T, E>> {
    /// Detaches the task, and reports its error: if it ends with an `Err` (or panics), the loop's exception handler
    /// gets the text, with the task and the place where it was created (asyncio's "exception was never retrieved").
    /// A value and a cancel are not reported, nor is anything once the result was taken.
    ///
    /// ```
    /// use std::{cell::RefCell, rc::Rc};
    /// let heard = Rc::new(RefCell::new(String::new()));
    /// let text = heard.clone();
    /// corio_runtime::run(async move {
    ///     corio_runtime::set_exception_handler(move |context| *text.borrow_mut() = context.message().to_owned());
    ///     corio_runtime::create_task(async { "seven".parse::<u32>() }).report_error();
    ///     corio_runtime::yield_now().await;
    /// });
    /// assert_eq!(*heard.borrow(), "Task exception was never retrieved: invalid digit found in string");
    /// ```
    pub fn report_error(self) {
        self.key.on_loop(move |lp, key| report_at_the_end(lp, key, self));
    }
}

fn report_at_the_end<T: 'static, E: Display + 'static>(lp: &Loop, key: TaskKey, task: Task<Result<T, E>>) {
    let tell = move |info: &TaskInfo| tell(task, info);
    if let Err(tell) = lp.tasks.add_done_callback(key, Box::new(tell))
        && let Some(info) = lp.tasks.info(key)
    {
        let place = info.location();
        lp.call_now(Box::new(move || tell(&info)), Some(place));
    }
}

/// Takes the result of a task that is done.
fn tell<T: 'static, E: Display + 'static>(task: Task<Result<T, E>>, info: &TaskInfo) {
    let Poll::Ready(result) = pin!(task).poll(&mut Context::from_waker(Waker::noop())) else { return };
    let error = match result {
        Ok(Err(e)) => e.to_string(),
        Err(TaskError::Panicked(panic)) => format!("panicked: {}", panic.message()),
        Ok(Ok(_)) | Err(_) => return,
    };
    let context = ExceptionContext::new(format!("Task exception was never retrieved: {error}"));
    call_exception_handler(&context.with_task(Some(info.clone())));
}
