// As much of Apple's PhotosUI as the sample app names, with the signatures of Apple's documentation.

import Foundation
import SwiftUI

public protocol Transferable {}
extension Data: Transferable {}

public struct PHPickerFilter: Sendable {
    public static let images = PHPickerFilter()
}

public struct PhotosPickerItem: Hashable {  // not Sendable, as Apple's
    public struct EncodingDisambiguationPolicy: Sendable {
        public static let automatic = EncodingDisambiguationPolicy()
        public static let current = EncodingDisambiguationPolicy()
    }

    let file: URL

    @discardableResult
    public func loadTransferable<T: Transferable>(
        type: T.Type, completionHandler: @escaping @Sendable (Result<T?, any Error>) -> Void
    ) -> Progress {
        completionHandler(Result { try Data(contentsOf: file) as? T })
        return Progress(totalUnitCount: 1)
    }
}

@MainActor @preconcurrency
public struct PhotosPicker<Label: View>: View {
    let title: String
    let selection: Binding<PhotosPickerItem?>
}

extension PhotosPicker where Label == Text {
    public init<S: StringProtocol>(
        _ title: S, selection: Binding<PhotosPickerItem?>, matching filter: PHPickerFilter? = nil,
        preferredItemEncoding: PhotosPickerItem.EncodingDisambiguationPolicy = .automatic
    ) {
        (self.title, self.selection) = (String(title), selection)
    }
}

extension PhotosPicker {
    public func appear(on screen: Screen) {
        screen.said.append("[\(title)]")
        screen.choose = { selection.wrappedValue = PhotosPickerItem(file: $0) }
    }
}
