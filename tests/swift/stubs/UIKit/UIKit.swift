// As much of Apple's UIKit as the sample app names.

import Foundation

public final class UIImage {
    public init?(data: Data) {}
}
