//! Where in a plot area there is room for words: rectangles and lines that are taken, and the best place between them.
//!
//! Places are tried on a grid of a few units. That is some thousand places for each of a handful of texts, against all lines that are drawn.

/// A rectangle, in the units of the drawing, whose vertical axis points downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// The point of it that is nearest to another.
    pub(super) fn nearest_to(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (x.max(self.left).min(self.right), y.max(self.top).min(self.bottom))
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

/// What is taken of a plot area.
#[derive(Debug)]
pub(super) struct Room {
    all: Area,
    taken: Vec<Area>,
}

/// Between two places that are tried.
const GRID: f64 = 4.0;
/// Words keep so far from lines and from each other.
const GAP: f64 = 2.0;

impl Room {
    pub(super) fn new(all: Area) -> Self {
        Self { all, taken: Vec::new() }
    }

    pub(super) fn take(&mut self, area: Area) {
        self.taken.push(area);
    }

    /// Takes what is around each stretch of a line, which is the stretch itself where it is level or upright.
    pub(super) fn take_line(&mut self, points: impl IntoIterator<Item = (f64, f64)>) {
        let mut before = None;
        for (x, y) in points {
            let (from_x, from_y): (f64, f64) = before.unwrap_or((x, y));
            let around = Area {
                left: from_x.min(x) - GAP,
                right: from_x.max(x) + GAP,
                top: from_y.min(y) - GAP,
                bottom: from_y.max(y) + GAP,
            };
            // The steps of a distribution are many and mostly small: those within one gap are one.
            match self.taken.last_mut() {
                Some(last)
                    if before.is_some()
                        && around.right.max(last.right) - around.left.min(last.left) < 3.0 * GAP
                        && around.bottom.max(last.bottom) - around.top.min(last.top) < 3.0 * GAP =>
                {
                    *last = Area {
                        left: last.left.min(around.left),
                        right: last.right.max(around.right),
                        top: last.top.min(around.top),
                        bottom: last.bottom.max(around.bottom),
                    };
                }
                _ => self.taken.push(around),
            }
            before = Some((x, y));
        }
    }

    /// The free place of this width and height whose distance to a point is least, to its right where that is no further than to its left.
    /// Without any, the place at its right, or at its left if it ends beyond the plot area.
    pub(super) fn nearest(&self, (x, y): (f64, f64), (width, height): (f64, f64)) -> Area {
        const BESIDE: f64 = 8.0;
        /// What a place at the left has to be nearer than one at the right.
        const LEFT_COSTS: f64 = 1.0;
        let at = |left: f64, top: f64| Area { left, right: left + width, top, bottom: top + height };
        let (right, left) = (x + BESIDE, x - BESIDE - width);
        let starts = [right, left].into_iter().chain(from_to(self.all.left + GAP, self.all.right - width));
        let tops = [y - height / 2.0].into_iter().chain(from_to(self.all.top + GAP, self.all.bottom - height - GAP));
        let places = starts.flat_map(|left| tops.clone().map(move |top| at(left, top)));
        let cost = |area: &Area| {
            let (near_x, near_y) = area.nearest_to((x, y));
            (near_x - x).hypot(near_y - y) + if area.right < x { LEFT_COSTS } else { 0.0 }
        };
        let own = Area { left: x - BESIDE, right: x + BESIDE, top: y - BESIDE, bottom: y + BESIDE };
        let free = places.filter(|area| self.is_free(area) && !own.meets(area));
        let best = free.map(|area| (cost(&area), area)).min_by(|(a, _), (b, _)| a.total_cmp(b));
        let beside = if right + width <= self.all.right { right } else { left };
        best.map_or_else(|| at(beside, y - height / 2.0), |(_, area)| area)
    }

    /// The lowest free place of this width and height, as far to the right as there is one at that height, up and left of a corner.
    pub(super) fn lowest(&self, (right, bottom): (f64, f64), size: (f64, f64)) -> Option<Area> {
        let ups = from_to(0.0, bottom - self.all.top - size.1);
        let backs = from_to(0.0, right - self.all.left - size.0);
        let mut places = ups.flat_map(|up| backs.clone().map(move |back| in_corner((right - back, bottom - up), size)));
        places.find(|area| self.is_free(area))
    }

    fn is_free(&self, area: &Area) -> bool {
        let within = area.left >= self.all.left
            && area.right <= self.all.right
            && area.top >= self.all.top
            && area.bottom <= self.all.bottom;
        within && !self.taken.iter().any(|taken| taken.meets(area))
    }
}

/// The place of this width and height whose lower right corner this is.
pub(super) fn in_corner((right, bottom): (f64, f64), (width, height): (f64, f64)) -> Area {
    Area { left: right - width, right, top: bottom - height, bottom }
}

/// Numbers a grid's width apart.
fn from_to(from: f64, to: f64) -> impl Iterator<Item = f64> + Clone {
    std::iter::successors(Some(from), |at| Some(at + GRID)).take_while(move |at| *at <= to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Area = Area { left: 0.0, right: 400.0, top: 0.0, bottom: 200.0 };

    #[test]
    fn a_place_is_beside_its_point_unless_something_is_there() {
        let mut room = Room::new(ALL);
        let place = |room: &Room| room.nearest((200.0, 100.0), (100.0, 14.0));
        assert_eq!(place(&room), Area { left: 208.0, right: 308.0, top: 93.0, bottom: 107.0 });
        room.take_line([(200.0, 100.0), (250.0, 100.0), (250.0, 200.0)]);
        let above = place(&room);
        assert!(above.bottom <= 98.0 && above.left >= 200.0 - 100.0, "{above:?}");
        room.take(Area { left: 100.0, right: 400.0, top: 0.0, bottom: 98.0 });
        let left = place(&room);
        assert!(left.right <= 200.0 && left.nearest_to((200.0, 100.0)).0 > 180.0, "{left:?}");
        room.take(ALL);
        assert_eq!(place(&room).left, 208.0, "somewhere it has to be");
    }

    #[test]
    fn a_remark_is_low_and_moves_out_of_the_way() {
        let mut room = Room::new(ALL);
        let place = |room: &Room| room.lowest((394.0, 197.0), (200.0, 30.0)).expect("there is room");
        assert_eq!(place(&room), Area { left: 194.0, right: 394.0, top: 167.0, bottom: 197.0 });
        room.take_line([(300.0, 200.0), (300.0, 0.0)]);
        let beside = place(&room);
        assert!(beside.bottom == 197.0 && beside.right <= 298.0, "{beside:?}");
        room.take_line([(100.0, 200.0), (100.0, 100.0), (400.0, 100.0)]);
        let above = place(&room);
        assert!(above.bottom <= 98.0 && above.right <= 298.0, "{above:?}");
        room.take(ALL);
        assert_eq!(room.lowest((394.0, 197.0), (200.0, 30.0)), None);
    }
}
