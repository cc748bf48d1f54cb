//! Fair orders: no way profits from its place in a round or from what ran before it.

/// The orders of the rounds of `ways` ways, to be used over and over.
///
/// A balanced Latin square (Williams, 1949): every way stands at every place equally
/// often, and follows every other way equally often. An even number of ways takes
/// as many rounds as ways, an odd number twice as many.
pub(super) fn fair(ways: usize) -> Vec<Vec<usize>> {
    // 0, 1, n-1, 2, n-2, ...: the differences of neighbours are all different.
    let zigzag = |at: usize| if at % 2 == 1 { at.div_ceil(2) } else { (ways - at / 2) % ways };
    let first: Vec<usize> = (0..ways).map(zigzag).collect();
    let mut orders = Vec::new();
    for shift in 0..ways {
        let order: Vec<usize> = first.iter().map(|way| (way + shift) % ways).collect();
        if ways % 2 == 1 {
            orders.push(order.iter().rev().copied().collect());
        }
        orders.push(order);
    }
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_every_place_and_every_predecessor_equally_often() {
        for ways in 2..=7 {
            let orders = fair(ways);
            let each = orders.len() / ways;
            for way in 0..ways {
                for place in 0..ways {
                    let here = orders.iter().filter(|order| order[place] == way).count();
                    assert_eq!(here, each, "way {way} of {ways} at {place}");
                }
                for other in (0..ways).filter(|&other| other != way) {
                    let pairs = orders.iter().flat_map(|order| order.windows(2));
                    let after = pairs.filter(|pair| **pair == [other, way]).count();
                    assert_eq!(after, each, "way {way} of {ways} after {other}");
                }
            }
        }
    }
}
